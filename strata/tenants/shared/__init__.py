"""The process's resources that every tenant actor is handed."""
