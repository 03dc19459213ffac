"""Limits of what is read of a stranger's image or video; a larger one is refused, from its header where possible."""

MAX_BYTES = 2**30
"""Bytes of one file or folder: ten minutes at 14 megabits per second, the rate of a good 1080p video."""

MAX_IMAGE_PIXELS = 2**26
"""A photograph of 48 megapixels fits; a 13,000 by 13,000 image, 676 MB once decoded with alpha, does not."""

MAX_VIDEO_PIXELS = 2**24
"""Pixels of each frame: 4K fits, upright too."""

MAX_FRAMES = 36_000
"""Ten minutes at 60 per second."""

MAX_SECONDS = 600
"""Seconds of a video, whatever part of it is taken: the longest that models make is below half a minute."""

MAX_RESULT = 2**31
"""Bytes of all frames that are taken, as RGB: 81 frames in 4K."""

MAX_MEMORY = 2**32
"""Address space of the process that decodes; the largest image needs a quarter of it."""

MAX_DECODING = 120
"""Seconds for one file or folder: 2 GiB of 4K frames take a slow processor half of that."""

RATES = (0.01, 1000.0)
"""Frames per second that a video may be taken at; the same limits hold where videos are written."""
