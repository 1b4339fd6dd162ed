"""The feedback log of a server: what it showed, and what users did."""
