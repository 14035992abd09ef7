"""What leaves for teams over HTTP, and the rules for where Waylink connects to."""
