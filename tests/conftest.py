"""What every test needs of its process."""

import signal

# A shell starts a background job with Ctrl-C ignored, and its children inherit that: tests of interrupts would wait.
signal.signal(signal.SIGINT, signal.default_int_handler)
