"""llama.cpp: its own HTTP server, from a prebuilt wheel or compiled for the machine."""
