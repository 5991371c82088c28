"""What tests share: scripted peers, recordings, fixtures."""
