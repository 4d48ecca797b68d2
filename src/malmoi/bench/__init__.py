"""How fast a model runs on this machine, and how fast it could.

In the order in which they are used:

    machine     what this processor is
    rounds      every measurement in turn, again and again, and the median
    roofline    how many bytes and operations a second there are, measured
    work        how many of both a step of a model needs
    subject     a model of any published size, with weights made on the spot
    workloads   prompts and decoding through the engine, timed
    report      all of it together: each number beside what the roofline allows
    table, plot the report for the eye

`malmoi bench` shows it for one model; `bench/engine.py` of the repository races the engine against others.
"""
