"""A family of random networks whose truth is known by training them: how good is the diagnosis?"""
