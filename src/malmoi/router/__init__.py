"""The router: which of two models answers a question, by rules and by a small classifier that is trained locally.

    question.py   a request, as a router sees it
    rules.py      what somebody has decided already: by language, length, media, tools, words, headers
    features.py   a question in numbers: named ones, and its runs of characters, hashed
    judged.py     questions that both models answered, with scores or preferences
    logistic.py   the regression                  cost.py    what a call costs
    curve.py      score against strong calls      training.py  judged rows -> a router
    router.py     the router: probability, decision, files
    report.py     what it is worth; tables.py, plot.py, page.py show it

    judged rows -> training.train_router -> Router -> decide(question): easy, hard, and how sure

No torch anywhere: a decision is some milliseconds of numpy. Place in the flow: `malmoi router train|report` make and
measure one, `malmoi/server/catalogue/routed.py` asks it for each request. Read next: `router.py`, then `training.py`.
"""

from malmoi.router.question import Question, question_of
from malmoi.router.router import Decision, Router
from malmoi.router.rules import Rule, first_rule

__all__ = ["Decision", "Question", "Router", "Rule", "first_rule", "question_of"]
