"""Whom the server trusts with what: layers around the application, which no endpoint can forget.

    layer.py       what a layer is                access.py      who may ask: keys, hosts, pages of others
    limits.py      how much, and how often        connection.py  how slow a client may be
    logged.py      what is asked, if the owner wants it in the log

Read next: `access.py`.
"""
