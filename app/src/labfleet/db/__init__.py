"""Database: models, engine, migrations and grants. Knows nothing of the rooms above."""
