"""A job as an RO-Crate: one ZIP with its protocols, inputs, parameters, results and where they come from.

`gather` reads the database, `graph` makes the description (JSON-LD), `writing` the ZIP. `terms` names what a
reader needs; the command line reads crates with nothing else of this room.
"""
