"""What the packet tests are made of; each test file says `from lib.case import *`."""
