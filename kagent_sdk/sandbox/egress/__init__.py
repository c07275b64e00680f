"""The one way out of the sandbox: a proxy that connects to what the policy lists, and nowhere else.

It runs in the host, outside the sandbox. Pure: `rules`, `addresses`, `client_hello`, `heads`. On
sockets: `bodies`, `resolver`, `connecting`, `dialing`, `upstream`, `session`, `tunnel`, `forwarding`,
`proxy`.
"""
