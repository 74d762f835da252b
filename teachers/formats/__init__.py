"""Files that teachers come in, and what describes them."""
