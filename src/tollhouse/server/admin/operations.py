"""Every operation of the admin API."""

from typing import Any, Final

from tollhouse.server.admin.book_operations import BOOK_OPERATIONS
from tollhouse.server.admin.operation import Operation
from tollhouse.server.admin.register_operations import REGISTER_OPERATIONS
from tollhouse.server.admin.system_operations import SYSTEM_OPERATIONS
from tollhouse.server.admin.token_operations import TOKEN_OPERATIONS

OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    *REGISTER_OPERATIONS,
    *TOKEN_OPERATIONS,
    *BOOK_OPERATIONS,
    *SYSTEM_OPERATIONS,
)
