"""How answers and progress look to people."""
