"""`rarevoxel token`: who may use the server."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarevoxel.bundled import default_home

if TYPE_CHECKING:
    from rarevoxel.server.guard.tokens import TokenStore

_DAYS = 90.0
_ROLES = ("view", "annotate", "train", "admin")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command and return its parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "token",
        help="make, list and revoke the tokens that let clients use the server",
        description="Roles: view sees cases and segments them; annotate submits labels too; train starts and stops "
        "training too; admin removes and downloads too. In 3D Slicer, any user name and the token as password.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="make a token and print it once")
    add.add_argument("name", metavar="NAME", help="who it is for; labels carry this name")
    add.add_argument("--role", choices=_ROLES, required=True, help="what it allows")
    add.add_argument("--days", type=float, default=_DAYS, metavar="D", help="how long it is good for (default 90)")
    revoke = actions.add_parser("revoke", help="end a token at once")
    revoke.add_argument("name", metavar="NAME")
    for action in (add, revoke, actions.add_parser("list", help="list the tokens, which cannot be shown again")):
        action.add_argument("--home", type=Path, default=None, help="of the server (default: the user's own)")
        action.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Do what was asked.

    Returns:
        0.

    Raises:
        RareVoxelError: see `TokenStore`.
    """
    from rarevoxel.server.guard.tokens import Role, TokenStore

    store = TokenStore((args.home or default_home()).absolute() / "tokens.json")
    if args.action == "add":
        token = store.add(args.name, Role.named(args.role), args.days)
        if args.json:
            _print_json({"name": args.name, "role": args.role, "token": token})
        else:
            sys.stdout.write(f"{token}\n")
            sys.stderr.write("this is the only time it is shown; give it to its owner over a safe channel\n")
    elif args.action == "revoke":
        entry = store.revoke(args.name)
        if args.json:
            _print_json({"revoked": entry.name})
        else:
            sys.stdout.write(f"revoked the token of {entry.name}\n")
    else:
        _list(store, args.json)
    return 0


def _list(store: TokenStore, as_json: bool) -> None:
    rows = [
        {"name": t.name, "role": t.role, "created": _day(t.created), "expires": _day(t.expires), "expired": t.expired()}
        for t in store.tokens()
    ]
    if as_json:
        _print_json({"tokens": rows})
        return
    for row in rows:
        note = "  expired" if row["expired"] else ""
        sys.stdout.write(f"{row['name']:<24} {row['role']:<9} {row['created']} to {row['expires']}{note}\n")
    if not rows:
        who = "it lets nobody in" if store.exists() else "it is open, to this machine only"
        sys.stdout.write(f"the server has no tokens: {who}\n")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _print_json(content: object) -> None:
    sys.stdout.write(json.dumps(content, indent=2) + "\n")
