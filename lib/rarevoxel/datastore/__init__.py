"""What is kept of a studies folder: its index, every version of every label, and the host's datastore over them.

Import the parts by name: `history`, `store` and `server_lock` need no host, `studies` is a class of the host.
"""
