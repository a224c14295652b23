"""Commands: each reads options, calls one function below, prints."""
