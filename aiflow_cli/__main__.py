"""`python -m aiflow_cli`: the same as `aiflow`."""

from aiflow_cli.cli.app import main

if __name__ == "__main__":
    main()
