"""Review by people: their events, whose turn it is, the page they look at."""
