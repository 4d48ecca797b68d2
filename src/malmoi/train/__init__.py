"""Training: packed batches in, a checkpoint directory out.

    RunConfig -> plan (printed) -> loop: batch -> model.hidden -> loss -> optimiser -> checkpoint

Pretraining and instruction tuning are one loop over different sources, the tasks of encoders the same loop with
another `objective`. Read `config.py` for what a run is, then `loop.py`; `objective`, `losses`, `optim`, `schedule`,
`checkpoint`, `report` are its parts.
"""
