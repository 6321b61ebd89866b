"""``strata demo``: service mode on real data, checked automatically and left running to be tried."""
