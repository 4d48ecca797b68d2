"""Training: packed batches in, a checkpoint directory out.

    RunConfig -> plan (printed) -> loop: batch -> model.hidden -> chunked loss -> optimiser -> checkpoint

Pretraining and instruction tuning are one loop over different sources. Read `config.py` for what a run is, then
`loop.py`; `losses`, `optim`, `schedule`, `checkpoint`, `report` are its parts.
"""
