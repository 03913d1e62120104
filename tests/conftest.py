"""What every test needs of its process."""

import signal

# A shell starts a background job with Ctrl-C ignored, and children inherit that: tests that interrupt one would wait forever.
signal.signal(signal.SIGINT, signal.default_int_handler)
