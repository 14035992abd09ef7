"""What people and programs do with connections through Waylink: at Nango first, and here as Nango then shows it."""
