"""The MONAI Label app, the ASGI face it is served through, and the launcher that puts both in a sane place."""
