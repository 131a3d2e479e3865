"""The commands: arguments in, files and pictures out. ``mmx --help`` tells the rest."""
