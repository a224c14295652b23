"""`python -m aiflow_cli`: the same as `aiflow`."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, where Python has found this package; nothing else is to come from there

    from aiflow_cli.cli.app import main

    main()
