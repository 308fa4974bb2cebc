"""What goes into a guest: the seed that tells it who it is, and the small guest of the catalogue."""
