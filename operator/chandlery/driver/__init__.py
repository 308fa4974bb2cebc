"""The driver contract: what makes a kind real on one substrate, and how it is described, wrapped and tested."""
