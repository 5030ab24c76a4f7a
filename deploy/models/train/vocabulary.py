"""Words the model is taught: chosen emoji, colour words, synonyms and caption templates."""

# Names are those of emoji-test.txt, normalised by data.normalise_name.
CHOSEN_NAMES = """
grinning face; face with tears of joy; winking face; smiling face with halo; smiling face with hearts;
smiling face with heart eyes; face with tongue; thinking face; neutral face; sleeping face; face with medical mask;
nauseated face; hot face; cold face; cowboy hat face; partying face; smiling face with sunglasses; nerd face;
frowning face; face with open mouth; crying face; loudly crying face; angry face; smiling face with horns; skull;
pile of poo; clown face; ghost; alien; robot; grinning cat; see no evil monkey;
love letter; heart with arrow; heart with ribbon; broken heart; heart on fire; red heart; pink heart; orange heart;
yellow heart; green heart; blue heart; purple heart; brown heart; black heart; sparkling heart;
thumbs up; thumbs down; waving hand; victory hand; flexed biceps; eye; eyes; brain; tooth; mouth;
man; woman; baby; astronaut; firefighter; police officer; santa claus; princess;
monkey face; gorilla; dog face; dog; poodle; wolf; fox; cat face; cat; black cat; lion; tiger face; horse; unicorn;
zebra; cow face; cow; pig face; pig; giraffe; elephant; mouse face; rabbit face; rabbit; hedgehog; bat; bear;
polar bear; koala; panda; ewe; kangaroo; hippopotamus; camel; deer; goat;
chicken; rooster; baby chick; bird; penguin; duck; swan; owl; flamingo; parrot; eagle; frog; crocodile; turtle; snake;
dragon; sauropod; t rex; spouting whale; dolphin; fish; tropical fish; blowfish; shark; octopus; crab; snail;
butterfly; honeybee; lady beetle; ant; spider; spider web; beetle;
rose; sunflower; tulip; cherry blossom; hibiscus; bouquet; blossom; evergreen tree; deciduous tree; palm tree; cactus;
four leaf clover; maple leaf; mushroom; potted plant; seedling;
grapes; melon; watermelon; lemon; banana; pineapple; red apple; green apple; pear; peach; cherries; strawberry;
blueberries; kiwi fruit; tomato; coconut; avocado; eggplant; carrot; ear of corn; hot pepper; bell pepper; cucumber;
broccoli; garlic; onion; bread; croissant; pretzel; bagel; pancakes; cheese wedge; meat on bone; bacon; hamburger;
french fries; pizza; hot dog; sandwich; taco; egg; cooking; popcorn; sushi; steaming bowl; spaghetti; ice cream;
soft ice cream; doughnut; cookie; birthday cake; cupcake; chocolate bar; candy; lollipop; honey pot; hot beverage;
wine glass; cocktail glass; beer mug; teapot; glass of milk;
snow capped mountain; volcano; house; castle; tent; bus; ambulance; fire engine; police car; taxi; automobile;
delivery truck; tractor; racing car; motorcycle; bicycle; locomotive; high speed train; airplane; helicopter; rocket;
flying saucer; sailboat; canoe; ship; anchor; vertical traffic light; stop sign;
sun; sun with face; full moon; crescent moon; ringed planet; star; cloud; cloud with rain; cloud with lightning;
sun behind cloud; rainbow; umbrella; high voltage; snowflake; snowman; fire; droplet; globe showing americas;
water wave;
jack o lantern; christmas tree; balloon; wrapped gift; sparkles; party popper; trophy; soccer ball; baseball;
basketball; tennis; american football; bullseye; kite; video game; game die; puzzle piece; teddy bear; crystal ball;
pool 8 ball; artist palette;
glasses; sunglasses; t shirt; jeans; dress; necktie; coat; socks; handbag; backpack; running shoe; high heeled shoe;
womans boot; crown; top hat; graduation cap; ring; gem stone; bell; musical note; headphone; radio; mobile phone;
telephone; laptop; television; camera; light bulb; candle; guitar; violin; saxophone; trumpet; drum; closed book;
books; envelope; pencil; briefcase; calendar; pushpin; scissors; locked; key; hammer; axe; shield; wrench; gear;
magnet; bomb; microscope; syringe; pill; door; chair; bed; broom; basket; alarm clock; hourglass done; money bag;
package; magnifying glass tilted left; watch;
red circle; blue circle; green circle; yellow circle; orange circle; purple circle; red square; blue square;
green square; yellow square; warning; check mark; cross mark; yin yang; pirate flag; rainbow flag
"""

# The names people try first.
COMMON_NAMES = """
grinning face; face with tears of joy; winking face; smiling face with hearts; smiling face with heart eyes;
smiling face with sunglasses; frowning face; crying face; loudly crying face; angry face; thinking face; skull;
ghost; alien; robot; clown face; pile of poo; red heart; blue heart; green heart; yellow heart; purple heart;
heart on fire; broken heart; thumbs up; eyes; astronaut; santa claus; dog face; dog; fox; cat face; cat; lion; horse;
unicorn; cow; pig face; giraffe; elephant; mouse face; rabbit face; bear; panda; frog; turtle; snake; dragon; sauropod;
spouting whale; dolphin; fish; tropical fish; octopus; crab; bird; penguin; duck; owl; parrot; butterfly; honeybee;
spider; rose; sunflower; tulip; evergreen tree; palm tree; cactus; mushroom; grapes; watermelon; lemon; banana;
pineapple; red apple; green apple; pear; cherries; strawberry; tomato; avocado; carrot; hot pepper; bread; hamburger;
french fries; pizza; hot dog; egg; ice cream; doughnut; cookie; birthday cake; hot beverage; wine glass; beer mug;
volcano; house; castle; bus; fire engine; police car; automobile; delivery truck; bicycle; high speed train; airplane;
rocket; flying saucer; sailboat; sun; crescent moon; star; cloud; rainbow; umbrella; high voltage; snowflake; snowman;
fire; droplet; globe showing americas; jack o lantern; christmas tree; balloon; wrapped gift; trophy; soccer ball;
basketball; teddy bear; glasses; sunglasses; t shirt; crown; top hat; ring; gem stone; bell; musical note; guitar;
mobile phone; laptop; camera; light bulb; closed book; pencil; locked; key; hammer; bomb; alarm clock
"""


def names(text):
    """Returns the set of names in a list above."""
    return {name.strip() for name in text.replace("\n", " ").split(";")}


# Colour word: hue in degrees, factor on saturation, factor on value.
RECOLOURS = {
    "red": (0, 1.1, 1.0),
    "orange": (27, 1.1, 1.0),
    "yellow": (50, 1.0, 1.05),
    "green": (125, 1.0, 0.85),
    "blue": (215, 1.05, 1.0),
    "purple": (277, 0.9, 0.9),
    "pink": (333, 0.6, 1.05),
}
COLOUR_WORDS = set(RECOLOURS) | {"brown", "black", "white", "grey", "gray", "golden", "gold"}

# Simple shapes that exist in every colour already.
NEVER_RECOLOURED = {"heart", "circle", "square", "book", "large circle"}

CAPTION_TEMPLATES = [
    "{}", "{}", "{}", "a {}", "a {}", "the {}", "emoji of {}", "emoji of a {}", "an emoji of a {}", "{} emoji",
    "a {} emoji", "a picture of a {}", "an icon of a {}", "a drawing of a {}",
]

SYNONYMS = {
    "automobile": ["car"],
    "ear of corn": ["corn"],
    "kiwi fruit": ["kiwi"],
    "hot beverage": ["coffee", "cup of coffee"],
    "wrapped gift": ["gift", "present"],
    "jack o lantern": ["halloween pumpkin", "pumpkin"],
    "pile of poo": ["poo"],
    "evergreen tree": ["pine tree"],
    "deciduous tree": ["tree"],
    "soccer ball": ["football"],
    "lady beetle": ["ladybug"],
    "honeybee": ["bee"],
    "spouting whale": ["whale", "whale with water"],
    "meat on bone": ["meat"],
    "glass of milk": ["milk"],
    "flying saucer": ["ufo"],
    "high voltage": ["lightning", "lightning bolt"],
    "mobile phone": ["smartphone", "phone"],
    "gem stone": ["diamond"],
    "sauropod": ["dinosaur"],
    "t rex": ["tyrannosaurus"],
    "face with tears of joy": ["laughing face"],
    "smiling face with sunglasses": ["cool face with sunglasses", "face with sunglasses"],
    "locked": ["lock"],
    "closed book": ["book"],
    "doughnut": ["donut"],
    "steaming bowl": ["ramen", "noodles"],
    "french fries": ["fries"],
    "locomotive": ["steam train"],
    "high speed train": ["train"],
    "fire engine": ["fire truck"],
    "delivery truck": ["truck"],
    "airplane": ["plane"],
    "womans boot": ["boot"],
    "globe showing americas": ["earth", "globe"],
    "light bulb": ["bulb"],
    "crescent moon": ["moon"],
    "sun with face": ["smiling sun"],
    "snow capped mountain": ["mountain"],
    "grinning face": ["smiling face", "happy face", "smiley"],
    "frowning face": ["sad face"],
    "loudly crying face": ["sobbing face"],
    "beer mug": ["beer"],
    "teddy bear": ["teddy"],
    "tiger face": ["tiger"],
    "ewe": ["sheep"],
}
