"""Which case a clinician sees next, whether what comes back can be used, and how well the models do on it.

Import the parts by name: `quality` needs neither torch nor the host, `scoring` and `strategy` are classes of the host.
"""
