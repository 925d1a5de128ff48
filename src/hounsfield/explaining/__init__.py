"""What an answer rests on: class-activation maps of a network with its reference weights."""

from hounsfield.explaining.grad_cam import activation_map

__all__ = ["activation_map"]
