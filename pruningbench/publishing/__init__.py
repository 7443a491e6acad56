"""Results that leave this machine: submissions, their verification, and publishing on a hub."""
