"""A campaign of annotation replayed on labelled cases: what a way to choose would have been worth.

Import the parts by name: `curves` needs numpy alone, `campaign` trains networks.
"""
