"""From a configuration to a record: `config` checks, `plan` lists the cells, `run` plays them.

`seepage.audit` is both this package and the function users call. Importing any module in here binds the
package to that name, so the package itself can be called, and passes the call on to `api.audit`.
"""

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from seepage.audit.api import audit

        return audit(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
