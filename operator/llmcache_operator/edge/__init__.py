"""All I/O: watches, queue, server-side apply, scraping, lease and health. The only layer that may wait."""
