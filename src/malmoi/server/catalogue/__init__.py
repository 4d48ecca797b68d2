"""The models of a server by name: of this process, of another machine, or chosen anew for each request.

    catalogue.py   names                          entry.py      what may stand behind one:
    local.py       a model of this process        loaded.py     and what it is once it is there
    upstream/      one of another machine         routed.py     one of the others, for each request
    room.py        memory that models share       holds.py      how long a request needs one
    writer.py      who answers, wherever it runs  measured.py   and what that took
    price.py       what its tokens cost

Read next: `catalogue.py`.
"""
