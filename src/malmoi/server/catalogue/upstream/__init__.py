"""Models of other machines, behind an OpenAI-compatible URL.

    upstream.py      `Upstream`: such a model among ours     settings.py   where it is
    asked.py         our parameters in OpenAI's words, with asked_chat.py
    client.py        connections, retries                    breaker.py    whom to leave alone for a while
    events.py        bytes -> events
    told.py          events -> an answer, with likelihoods.py

Place in the flow: the catalogue has an `Upstream` for each. Read next: `upstream.py`.
"""

from malmoi.server.catalogue.upstream.settings import UpstreamSettings
from malmoi.server.catalogue.upstream.upstream import Upstream

__all__ = ["Upstream", "UpstreamSettings"]
