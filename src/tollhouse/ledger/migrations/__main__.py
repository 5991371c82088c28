"""Migrates the ledger whose address comes on standard input: a process of its own, started by `revisions.migrate_apart`."""

import sys

from tollhouse.errors import TollhouseError
from tollhouse.ledger import migrations

try:
    migrations.upgrade(sys.stdin.read())
except TollhouseError as error:
    sys.exit(str(error))
