"""The HTTP side: paths, parameters, negotiation, encodings, streams."""
