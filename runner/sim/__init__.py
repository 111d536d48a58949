"""The built-in provider: a pure engine with an account of its own, and two thin shells around it.

| file | what is in it |
|---|---|
| `config.py` | what a provider is told to be, a strict loader, and the cast that needs no configuration |
| `replies.py` | the tokens of a text, and readable replies that depend on nothing but seed, model and messages |
| `meter.py` | the limits of one account: sliding, fixed and bucket windows, reserved or used tokens |
| `dialect.py` | what a dialect is, and what all of them share: requests and answers before they have a form |
| `dialects/` | one file per format, and the chat servers with their ways: requests read, answers written |
| `delivery.py` | how an answer goes out, and what happens to it on the way |
| `bill.py` | the provider's own account of what it charges |
| `engine.py` | a request and the time in, the pieces of an answer and the bill out; no wait, no clock, no I/O |
| `server.py` | a loopback HTTP server over an engine |
| `wire.py` | the same engine as a simulated wire, for virtual time |

It is written from what the vendors document and shares nothing with `providers/`, `transports/` or `gate`, so that
its bill and the journal are two independent accounts of one run.
"""
