"""A lab whose tiers have several machines, and what happens when one of them is lost."""
