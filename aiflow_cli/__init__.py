"""aiflow: device-edge speculative decoding over a shaped link, measured."""

__version__ = "0.1.0"
