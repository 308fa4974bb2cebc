"""Writes what follows from the models: crds/, the chart's copies, the reference pages. `python -m chandlery.gen`."""
