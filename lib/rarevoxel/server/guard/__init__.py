"""What stands between the network and the host: names, parameters, limits, tokens, Host and Origin, one error form.

Nothing here needs MONAI Label: `middleware.Guard` wraps any ASGI application.
"""
