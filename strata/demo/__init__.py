"""``strata demo``: service mode on real data, checked by itself and left running to be tried."""
