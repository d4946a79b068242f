"""A user model that has little in common with Django's own."""
