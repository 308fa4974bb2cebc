"""The reconcile loop: store, queue, pure decisions, acts; informers, election; one module that binds it to kopf.

Read in this order: `engine` (events in, keys out), `loop` (one pass), `decide` and `status` (pure), `deletion`,
`core` (put together for one term of leadership), `operator` (what every replica runs).
"""
