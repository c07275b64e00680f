"""The sandbox: one policy, applied by the kernel before the author's first import.

Standard library only, and usable without the rest of the package: `kagent_sdk.sandbox.policy` says
what is allowed, `kagent_sdk.sandbox.confine` applies it to the calling process.
"""
