"""What every test needs of its process."""

import signal

from hypothesis import settings

# A shell starts a background job with Ctrl-C ignored, and its children inherit that: tests of interrupts would wait.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Properties are checked, not timed: hypothesis fails an example of over 200 ms, which any may take on a busy machine.
settings.register_profile("reidkit", deadline=None)
settings.load_profile("reidkit")
