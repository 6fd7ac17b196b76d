"""The dashboard of a running server: gathering what its pages show, and having pictures made beside it."""
