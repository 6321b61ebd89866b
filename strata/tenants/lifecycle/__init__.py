"""A tenant actor: started, asked, supervised, evicted."""
